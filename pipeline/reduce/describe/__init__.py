"""What is said of classes: members, names, quality."""
