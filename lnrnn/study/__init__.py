"""Many runs and how they get made: which, in what order, in how many processes, at what cost."""
