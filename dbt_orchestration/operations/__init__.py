"""What people start from a form."""
