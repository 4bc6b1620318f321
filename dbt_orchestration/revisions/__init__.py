"""A prepared dbt project: parsed once, then read by the webserver, the daemon and every run."""
