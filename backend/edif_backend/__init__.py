"""The fabric: gateway, jobs, objects, dispatcher, replicas and executors."""
