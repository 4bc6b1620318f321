"""People and other tools are told what goes wrong, once for each incident, and when it is over."""
