//! The front over real loopback sockets, as clients and upstreams see it: byte for byte.

mod rig;
mod scarcity;

mod answers;
mod bad_answers;
mod balancing;
mod draining;
mod exchanges;
mod hang_ups;
mod local_host;
mod logins;
mod message_fields;
mod refusals;
mod static_files;
mod streaming;
mod threads;
mod uploads;
