//! The supervisor in a world of scripted processes, probes and traffic, on a paused clock: what its
//! drivers do, in which order, and when to the millisecond.

mod abandoned;
mod anything;
mod building;
mod crashes;
mod ending;
mod faults;
mod finishing;
mod jobs;
mod leaving;
mod log_lines;
mod order;
mod outliving;
mod probing;
mod releasing;
mod replacing;
mod starting;
mod stopping;
mod together;
mod unbuilt;
mod world;
