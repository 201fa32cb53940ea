#include "memory.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace personaplug {

void return_free_memory() {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

#if defined(__linux__)
namespace {

constexpr uintptr_t kHugePage = 2 << 20;
// Weights are allocated as a whole. What is smaller may be a part of the heap, where whole huge pages would be taken
// for whatever is allocated there later.
constexpr uintptr_t kLeast = 16 << 20;

using Ranges = std::vector<std::pair<uintptr_t, uintptr_t>>;

// Writable memory without a file behind it; the C library takes large allocations as mappings of their own.
Ranges anonymous_memory() {
    Ranges found;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        unsigned long begin = 0, end = 0, inode = 0;
        char access[5] = {};
        int named = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx %4s %*x %*s %lu %n", &begin, &end, access, &inode, &named) == 4 &&
            std::string(access) == "rw-p" && inode == 0 &&
            (line.size() <= static_cast<size_t>(named) || line.compare(static_cast<size_t>(named), 6, "[anon:") == 0)) {
            found.emplace_back(begin, end);
        }
    }
    return found;
}

// The parts of a range that none of `others`, which rise, covers.
Ranges without(std::pair<uintptr_t, uintptr_t> range, const Ranges &others) {
    Ranges left;
    for (const auto &[begin, end] : others) {
        if (end <= range.first || begin >= range.second) {
            continue;
        }
        if (begin > range.first) {
            left.emplace_back(range.first, begin);
        }
        range.first = std::min(end, range.second);
    }
    if (range.first < range.second) {
        left.push_back(range);
    }
    return left;
}

// The number in a file; the largest there is where the file has none ("max").
uint64_t number_in(const char *path) {
    std::ifstream file(path);
    uint64_t value = 0;
    return file >> value ? value : std::numeric_limits<uint64_t>::max();
}

} // namespace

bool has_huge_pages() {
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
    std::string choices; // as "always [madvise] never"
    return std::getline(file, choices) && choices.find("[never]") == std::string::npos;
}

uint64_t free_memory() {
    uint64_t free = 0;
    std::ifstream info("/proc/meminfo");
    for (std::string line; std::getline(info, line);) {
        unsigned long long kilobytes = 0;
        if (std::sscanf(line.c_str(), "MemAvailable: %llu kB", &kilobytes) == 1) {
            free = kilobytes * 1024;
        }
    }
    const uint64_t limit = number_in("/sys/fs/cgroup/memory.max");
    const uint64_t used = number_in("/sys/fs/cgroup/memory.current");
    return limit != std::numeric_limits<uint64_t>::max() ? std::min(free, limit - std::min(limit, used)) : free;
}

MemorySnapshot::MemorySnapshot() : ranges_(anonymous_memory()) {}

void MemorySnapshot::ask_huge_pages() const {
    for (const auto &range : anonymous_memory()) {
        for (const auto &[begin, end] : without(range, ranges_)) {
            const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage, last = end / kHugePage * kHugePage;
            if (first < last && last - first >= kLeast) {
                madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
            }
        }
    }
}

#else

bool has_huge_pages() { return false; }

uint64_t free_memory() { return 0; }

MemorySnapshot::MemorySnapshot() = default;

void MemorySnapshot::ask_huge_pages() const {}

#endif

} // namespace personaplug
