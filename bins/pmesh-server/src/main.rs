//! The pmesh server: see the library beside this file.

fn main() -> std::process::ExitCode {
    pmesh_server::main()
}
