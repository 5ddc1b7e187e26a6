"""Running a suite: the orchestrator in this process, a worker in another, and the journal between crashes."""
