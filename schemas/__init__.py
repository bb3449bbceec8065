"""The contract with everyone who reads shardmill's files: Arrow schemas and reason codes. Imports pyarrow only."""
