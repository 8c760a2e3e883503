//! HTTP/1.1 towards endpoints.
//!
//! A connection has no task of its own: the request that uses it writes and reads. Only an upload that is still under way
//! when the response begins goes on in a task, because nobody else would move it.

mod connection;
mod reading;
mod upload;

pub(super) use connection::Http1Connection;
