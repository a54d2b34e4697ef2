//! The status page and the API, an unprivileged process of its own.
