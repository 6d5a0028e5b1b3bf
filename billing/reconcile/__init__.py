"""What the switches themselves wrote down, beside what was billed. Reads and compares; settles nothing."""
