"""The adapters that come with conformance: one module per framework, loaded only when it is selected."""
