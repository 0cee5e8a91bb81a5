"""What every stage needs around its work; it knows no stage."""
