"""Power loss: enumerated from recorded file operations, and real on loop-mounted file systems."""
