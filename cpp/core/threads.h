#pragma once

namespace personaplug {

// Physical cores this process may run on, at least 1. Two threads on one core only spin-wait for each other in ggml.
int physical_cores();

// What this thread has computed so far, in seconds. Unlike a clock on the wall it stands still while others have the
// core, and while the process is stopped.
double thread_seconds();

} // namespace personaplug
