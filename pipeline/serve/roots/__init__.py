"""The roots that are served: each opened once, watched for its next publication, and asked by many requests at a time."""
