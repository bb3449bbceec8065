"""The routes: each takes a checked request, asks a root, and answers with one of schemas/answers/serving."""
