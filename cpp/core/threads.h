#pragma once

namespace personaplug {

// Physical cores this process may run on, at least 1. Two threads on one core only spin-wait for each other in ggml.
int physical_cores();

} // namespace personaplug
