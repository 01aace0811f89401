"""What a model of each task has to do, as checks: a module a task, and one for all tasks."""
