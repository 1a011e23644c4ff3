//! Files of a container that its network decides.
