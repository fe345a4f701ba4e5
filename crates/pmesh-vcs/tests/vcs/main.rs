//! The rules of the interface, against real git and against the fake.

mod bombs;
mod both;
mod causes;
mod check_out;
mod discover;
mod ends;
mod fetch;
mod go_back;
mod habits;
mod heads;
mod history;
mod leftovers;
mod owners;
mod readers;
mod redirects;
mod secrets;
mod site;
mod web;
