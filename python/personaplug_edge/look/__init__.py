"""Pictures of users and histories: a map of personal embeddings, attribution over time. Data first, drawing apart."""
