// llama.cpp's backends: started once a process, and what devices they offer.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace personaplug {

struct Device {
    std::string name;        // "CPU", "CUDA0"
    std::string description; // the maker's words
    std::string kind;        // "cpu", "gpu", "igpu", "accelerator", "other"
    size_t memory_total = 0; // bytes
    size_t memory_free = 0;  // bytes
};

// Idempotent and thread-safe.
void start_backend();

std::vector<Device> devices();

// The instruction sets and features llama.cpp was compiled with.
std::string system_info();

} // namespace personaplug
