"""What `reproduce.py` is made of; nothing else imports it."""
