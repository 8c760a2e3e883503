//! One binary: the real daemon in process, real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that unwraps fails with the line at fault

#[macro_use]
mod support;

mod access_log;
mod admin;
mod affinity;
mod architecture;
mod bad_input;
mod balance_simulation;
mod balancing;
mod bodies;
mod breaker;
mod cli;
mod config;
mod config_resilience;
mod connections;
mod corpus;
mod deadlines;
mod distance;
mod dns;
mod drain;
mod early_answers;
mod ejection;
mod explain;
mod failover;
mod failures;
mod fault;
mod faulty;
mod file_source;
mod framing;
mod fuzz;
mod grpc;
mod h2_frames;
mod health_checks;
mod hedge;
mod host_services;
mod http1;
mod http1_upstream;
mod http2;
mod idle_streams;
mod late_outcomes;
mod limits;
mod listeners;
mod memory;
mod metrics;
mod overload;
mod process;
mod reload;
mod retry;
mod routing;
mod stalled;
mod translation;
mod upstream;
mod workers;
