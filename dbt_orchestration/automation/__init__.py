"""What runs by itself: the push sensor, jobs with a schedule, Lightdash."""
