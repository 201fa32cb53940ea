// Whether a sequence's saved state is what it says it is, seen before llama.cpp gets it: cells of negative positions
// can never be removed again, and of a recurrent state it asserts that there is one cell.
#pragma once

#include <string>

namespace personaplug {

// What of a model decides the layout of llama_state_seq_get_data.
struct StateLayout {
    bool attention = true; // keys and values; a hybrid has both
    bool recurrent = false;
    bool window = false;   // a cache that drops what slid out of the window may hold the last positions alone
    bool extended = false; // M-RoPE's cells say more
};

// True when `state` holds the cells of positions 0 to length - 1, each once. False as well for a layout that this does
// not know (llama-kv-cache.cpp and llama-memory-recurrent.cpp, state_write).
bool holds_positions(const std::string &state, int length, const StateLayout &layout);

} // namespace personaplug
