// Where a model's weights lie. A token reads all of them, and Linux maps memory in pages of 4 KB unless it is asked for
// larger ones: the processor then looks up a page for every 4 KB of weights, twice over in a virtual machine. In pages
// of 2 MB, which a mapped file cannot have on most systems, the same llama.cpp decodes faster (benchmarks/notes.md).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace personaplug {

// Whether memory that is asked for it comes in huge pages: on Linux, unless they are switched off there.
bool has_huge_pages();

// Bytes that this process may still take, by the system's count and its control group's; 0 where nobody tells.
uint64_t free_memory();

// Gives the system back what the C library keeps of memory that was freed, where it can: loading frees much.
void return_free_memory();

// The process's anonymous memory at one moment, to tell apart what was allocated after it.
class MemorySnapshot {
  public:
    MemorySnapshot();

    // Asks for huge pages for all allocations of 16 MB and more since, by any thread; only what is not yet written to
    // gets them. A request, not an order: where the system does not care, nothing happens.
    void ask_huge_pages() const;

  private:
    std::vector<std::pair<uintptr_t, uintptr_t>> ranges_; // begin and end, rising
};

} // namespace personaplug
