"""The servicers, and what they share. They translate, call and answer; the broker decides."""
