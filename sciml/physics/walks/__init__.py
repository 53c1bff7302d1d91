"""Walk on spheres: the engine, families of elliptic problems, their references, verification."""
