//! One binary: the real daemon in process, real sockets.
mod config;
