#include "check.h"
#include "digest.h"
#include "prefix_cache.h"
#include "state_check.h"

using namespace personaplug;

namespace {

Prefix prefix(const std::string &owner, const std::string &content, size_t bytes, bool answer = false) {
    Prefix made;
    made.owner = owner;
    made.content = content;
    made.length = static_cast<int>(content.size());
    made.answer = answer;
    made.state = std::string(bytes, 's');
    return made;
}

} // namespace

TEST(a_digest_does_not_depend_on_the_pieces) {
    std::string text;
    for (int i = 0; i < 200; ++i) {
        text += static_cast<char>(i * 37);
    }
    Digest whole;
    whole.add(text);
    const std::string expected = whole.finish();
    for (size_t piece = 1; piece < 70; ++piece) {
        Digest digest;
        for (size_t at = 0; at < text.size(); at += piece) {
            digest.add(text.substr(at, piece));
        }
        CHECK(digest.finish() == expected);
    }
    for (size_t i = 0; i < text.size(); ++i) {
        std::string other = text;
        other[i] ^= 1;
        Digest digest;
        digest.add(other);
        CHECK(digest.finish() != expected);
    }
    Digest longer;
    longer.add(text + '\0');
    CHECK(longer.finish() != expected);
}

TEST(prefixes_of_an_owner_and_of_all) {
    PrefixCache cache(10000);
    CHECK(cache.put(prefix("", "ab", 10), 0));
    CHECK(cache.put(prefix("u", "abcd", 10), 0));
    CHECK(cache.put(prefix("v", "abcde", 10), 0));
    CHECK(cache.find("u", "abcdef")->length == 4);
    CHECK(cache.find("u", "abcd")->length == 2);
    CHECK(cache.find("w", "abcdef")->length == 2);
    CHECK(cache.find("w", "ab") == nullptr);
    CHECK(cache.has("v", "abcde") && !cache.has("v", "abcd"));
    CHECK(cache.stats().hits == 3 && cache.stats().misses == 1);
}

TEST(what_was_forgotten_does_not_come_back) {
    PrefixCache cache(10000);
    const uint64_t before = cache.epoch();
    CHECK(cache.put(prefix("u", "abc", 10), before));
    cache.forget("u");
    CHECK(cache.stats().count == 0 && cache.stats().bytes == 0);
    CHECK(!cache.put(prefix("u", "abc", 10), before));
    CHECK(cache.put(prefix("v", "abc", 10), before));
    CHECK(cache.put(prefix("u", "abc", 10), cache.epoch()));
    for (int i = 0; i < 5000; ++i) {
        cache.forget("owner " + std::to_string(i));
    }
    CHECK(!cache.put(prefix("u", "abcd", 10), before));
    CHECK(cache.put(prefix("u", "abcd", 10), cache.epoch()));
}

TEST(the_least_recently_used_make_room) {
    const size_t one = prefix("u", "a0", 100).size();
    PrefixCache cache(3 * one);
    for (int i = 0; i < 3; ++i) {
        cache.put(prefix("u", "a" + std::to_string(i), 100), 0);
    }
    CHECK(cache.find("u", "a0x") != nullptr);
    cache.put(prefix("v", "b0", 100), 0);
    CHECK(cache.find("u", "a1x") == nullptr);
    CHECK(cache.find("u", "a0x") != nullptr);
    CHECK(cache.stats().bytes == 3 * one);
    CHECK(!cache.put(prefix("u", "c", 4000), 0));
    CHECK(cache.stats().count == 3);
    const auto entry = cache.find("u", "a2x");
    cache.drop(entry);
    cache.drop(entry);
    CHECK(cache.stats().count == 2);
}

TEST(a_turn_takes_the_place_of_the_one_it_continues) {
    PrefixCache cache(10000);
    cache.put(prefix("u", "ab", 10), 0);
    cache.put(prefix("u", "abc", 10, true), 0);
    cache.put(prefix("u", "x", 10, true), 0);
    cache.put(prefix("u", "abcd", 10, true), 0);
    CHECK(cache.stats().count == 3);
    CHECK(!cache.has("u", "abc") && cache.has("u", "ab") && cache.has("u", "x"));
}

TEST(prefixes_as_bytes) {
    PrefixCache cache(10000);
    cache.put(prefix("u", "ab", 10), 0);
    cache.put(prefix("u", "abc", 20, true), 0);
    const std::string data = write_prefixes(cache.of("u"), "model");
    const auto read = read_prefixes(data, "model", "v");
    CHECK(read.size() == 2);
    CHECK(read[1].content == "abc" && read[1].answer && read[1].owner == "v" && read[1].state.size() == 20);
    CHECK(read_prefixes(data, "other", "v").empty());
    for (size_t i = 0; i < data.size(); ++i) {
        std::string damaged = data;
        damaged[i] ^= 0x10;
        CHECK(read_prefixes(damaged, "model", "v").empty());
        CHECK(read_prefixes(data.substr(0, i), "model", "v").empty());
    }
    // A digest that fits does not make numbers good.
    std::string lies = data.substr(0, data.size() - 16);
    for (size_t i = 8; i + 8 <= lies.size(); ++i) {
        std::string lie = lies;
        lie.replace(i, 8, 8, '\xFF');
        Digest digest;
        digest.add(lie);
        read_prefixes(lie + digest.finish(), "model", "v");
    }
}

namespace {

template <typename T> void append(std::string &text, T value) {
    text.append(reinterpret_cast<const char *>(&value), sizeof(value));
}

// As llama.cpp writes a sequence: cells of these positions in the second of three streams, one layer.
std::string state_of(const std::vector<int32_t> &positions, uint32_t transposed, bool extended) {
    std::string state(8, 'h');
    for (const uint32_t number : {uint32_t{3}, uint32_t{0}, static_cast<uint32_t>(positions.size())}) {
        append(state, number);
    }
    for (const int32_t position : positions) {
        append(state, position);
        append(state, uint32_t{1});
        state += std::string(extended ? 12 : 0, 'e');
        append(state, int32_t{2});
    }
    append(state, transposed);
    append(state, uint32_t{1});
    append(state, int32_t{0});
    append(state, uint64_t{5});
    state += std::string(5 * positions.size(), 'k');
    append(state, int32_t{0});
    if (transposed != 0) {
        append(state, uint32_t{4});
        append(state, uint32_t{3});
    } else {
        append(state, uint64_t{12});
    }
    state += std::string(12 * positions.size(), 'v');
    append(state, uint32_t{0}); // the third stream
    return state;
}

} // namespace

TEST(states_hold_the_positions_they_claim) {
    const StateLayout plain;
    StateLayout extended;
    extended.extended = true;
    StateLayout window;
    window.window = true;
    StateLayout recurrent;
    recurrent.attention = false;
    recurrent.recurrent = true;
    for (const uint32_t transposed : {0u, 1u}) {
        const std::string good = state_of({0, 2, 1, 3}, transposed, false);
        CHECK(holds_positions(good, 4, plain));
        CHECK(!holds_positions(good, 3, plain) && !holds_positions(good, 5, plain) && !holds_positions(good, 0, plain));
        CHECK(!holds_positions(good, 4, extended) && !holds_positions(good, 4, recurrent));
        CHECK(holds_positions(state_of({0, 2, 1, 3}, transposed, true), 4, extended));
        CHECK(!holds_positions(state_of({0, 1, 1, 3}, transposed, false), 4, plain));
        CHECK(!holds_positions(state_of({0, 1, 2, -1}, transposed, false), 4, plain));
        CHECK(!holds_positions(state_of({2, 3}, transposed, false), 4, plain));
        CHECK(holds_positions(state_of({2, 3}, transposed, false), 4, window));
        CHECK(holds_positions(good + state_of({3, 2}, transposed, false).substr(8), 4, window));
        CHECK(!holds_positions(good + state_of({1, 2}, transposed, false).substr(8), 4, window));
        CHECK(!holds_positions(good + "x", 4, plain));
        for (size_t i = 0; i < good.size(); ++i) {
            CHECK(!holds_positions(good.substr(0, i), 4, plain));
            std::string lie = good;
            lie.replace(i, 8, 8, '\xFF');
            for (const StateLayout &layout : {plain, extended, window, recurrent}) {
                holds_positions(lie.substr(0, good.size()), 4, layout);
            }
        }
    }
    std::string state(8, 'h');
    append(state, uint32_t{1});
    append(state, int32_t{3});
    append(state, uint32_t{0});
    CHECK(holds_positions(state + "numbers", 4, recurrent));
    CHECK(!holds_positions(state + "numbers", 5, recurrent));
    CHECK(!holds_positions(state + "numbers", 4, plain));
}
