"""The reports that come with conformance: each is a function of a run, named by an entry point."""
