"""(configuration, credentials, facts) -> the lists of resources; what is checked before and after."""
