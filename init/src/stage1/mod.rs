//! What runs in the initramfs: choose a slot, mount its root, switch to it.
