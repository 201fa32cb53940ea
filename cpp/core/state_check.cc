#include "state_check.h"

#include <cstdint>
#include <cstring>
#include <vector>

namespace personaplug {
namespace {

constexpr size_t kHeader = 8;     // a magic number and the sequence's id
constexpr size_t kExtension = 12; // llama_kv_cell_ext
constexpr uint32_t kMostStreams = 256;
constexpr uint32_t kMostLayers = 4096;

class Walk {
  public:
    Walk(const std::string &state, int length, const StateLayout &layout)
        : state_(state), length_(static_cast<uint32_t>(length)), layout_(layout) {}

    bool good() {
        skip(kHeader);
        if (layout_.attention) {
            keys_and_values(layout_.window && !layout_.recurrent);
            // Of two caches in a row the second is the window's.
            while (good_ && layout_.window && at_ < state_.size() && !(layout_.recurrent && one_state())) {
                keys_and_values(true);
            }
        }
        if (layout_.recurrent) {
            return good_ && one_state(); // what follows are its numbers
        }
        return good_ && at_ == state_.size();
    }

  private:
    template <typename T> T number() {
        T value{};
        if (good_ && state_.size() - at_ >= sizeof(value)) {
            std::memcpy(&value, state_.data() + at_, sizeof(value));
            at_ += sizeof(value);
        } else {
            good_ = false;
        }
        return value;
    }

    void skip(size_t bytes) {
        good_ = good_ && bytes <= state_.size() - at_;
        at_ += good_ ? bytes : 0;
    }

    // So many rows of so many bytes.
    void skip(uint64_t rows, uint64_t bytes) {
        good_ = good_ && rows > 0 && bytes <= (state_.size() - at_) / rows;
        skip(good_ ? static_cast<size_t>(rows * bytes) : 0);
    }

    // Looks at one recurrent cell: the position of the last entry, and no list of sequences.
    bool one_state() const {
        Walk ahead = *this;
        const auto cells = ahead.number<uint32_t>();
        const auto position = ahead.number<int32_t>();
        const auto sequences = ahead.number<uint32_t>();
        return ahead.good_ && cells == 1 && sequences == 0 && position == static_cast<int32_t>(length_ - 1);
    }

    void keys_and_values(bool may_begin_later) {
        const auto streams = number<uint32_t>();
        good_ = good_ && streams >= 1 && streams <= kMostStreams;
        bool found = false;
        for (uint32_t i = 0; good_ && i < streams; ++i) {
            const auto count = number<uint32_t>();
            if (!good_ || count == 0) {
                continue;
            }
            good_ = !found && count <= length_ && (count == length_ || may_begin_later);
            found = true;
            positions(count);
            tensors(count);
        }
        good_ = good_ && found;
    }

    // The last `count` of all positions, each once.
    void positions(uint32_t count) {
        std::vector<bool> seen(good_ ? count : 0);
        for (uint32_t i = 0; good_ && i < count; ++i) {
            const auto place = static_cast<int64_t>(number<int32_t>()) - (length_ - count);
            const auto sequences = number<uint32_t>();
            skip(layout_.extended ? kExtension : 0);
            number<int32_t>(); // the sequence
            good_ = good_ && sequences == 1 && place >= 0 && place < count && !seen[place];
            if (good_) {
                seen[place] = true;
            }
        }
    }

    void tensors(uint32_t count) {
        const auto transposed = number<uint32_t>();
        const auto layers = number<uint32_t>();
        good_ = good_ && transposed <= 1 && layers <= kMostLayers;
        for (uint32_t i = 0; good_ && i < 2 * layers; ++i) {
            number<int32_t>(); // the type
            if (i < layers || transposed == 0) {
                skip(count, number<uint64_t>());
            } else {
                const auto size = number<uint32_t>();
                skip(count, static_cast<uint64_t>(size) * number<uint32_t>());
            }
        }
    }

    const std::string &state_;
    const uint32_t length_;
    const StateLayout layout_;
    size_t at_ = 0;
    bool good_ = true;
};

} // namespace

bool holds_positions(const std::string &state, int length, const StateLayout &layout) {
    return length >= 1 && Walk(state, length, layout).good();
}

} // namespace personaplug
