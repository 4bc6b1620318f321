"""What a code location consists of: definitions, jobs, the component, the run launcher."""
