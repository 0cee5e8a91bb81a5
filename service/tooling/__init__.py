"""The tools that a service offers: declared, guarded call by call, isolated."""
