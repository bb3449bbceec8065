"""The HTTP service: samples found and shown out of one or more roots, by a typed API and by clip-retrieval's wire API."""
