//! The whole server as a user runs it: the binary, real git remotes, real Python apps, clients that
//! never retry.

mod access;
mod builds;
mod callers;
mod cancelled;
mod crowds;
mod deployed;
mod documents;
mod ends;
mod env_files;
mod example;
mod harness;
mod in_place;
mod jobs;
mod killed;
mod logs;
mod moments;
mod order;
mod outliving;
mod owners;
mod places;
mod proxies;
mod queued;
mod releasing;
mod rollouts;
mod scarcity;
mod services;
mod signals;
mod state;
mod strangers;
mod told;
mod trees;
mod users;
