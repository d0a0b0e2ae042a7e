"""Message transforms: what users have done to their messages, on the way in and on the way out."""
