"""What is read of no sample: members that are ignored, files that are left out, fields that are not asked for."""
