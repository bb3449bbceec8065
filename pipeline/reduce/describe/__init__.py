"""Descriptions of classes: members, names, quality."""
