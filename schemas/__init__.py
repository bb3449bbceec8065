"""The contract with everyone who reads shardmill's files: Arrow schemas, reason codes, and the answers of the command line."""
