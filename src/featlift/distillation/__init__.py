"""What all five papers share: a student at low resolution learns the features of a teacher at high resolution."""
