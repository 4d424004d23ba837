"""Where the results of the service go, each output in a thread of its own."""
