"""What runs by itself: the push sensor, the daily build and other jobs with a schedule."""
