#include "beam_search.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "require.h"
#include "sampler.h"
#include "stop_matcher.h"
#include "utf8.h"

namespace personaplug {
namespace {

constexpr int kMostBeams = 32;
constexpr double kMostPenalty = 16.0; // 2^24 tokens ^ 16 is still a double
constexpr size_t kReservedRounds = 1024;
constexpr const char *kEnd = "end";

size_t candidates_of(int beams, size_t end_count) { return std::max<size_t>(2, 1 + end_count) * beams; }

double penalized(double logprob, int length, double penalty) { return logprob / std::pow(length, penalty); }

} // namespace

void BeamOptions::check(int vocabulary, int end_count) const {
    require<SamplingError>(beams >= 1 && beams <= kMostBeams, "beams", "1 to " + std::to_string(kMostBeams), beams);
    const size_t candidates = candidates_of(beams, end_count);
    require<SamplingError>(candidates <= static_cast<size_t>(vocabulary), "beams",
                           "such that their " + std::to_string(candidates) +
                               " candidates are no more than the vocabulary of " + std::to_string(vocabulary),
                           beams);
    require<SamplingError>(max_tokens >= 1, "max_tokens", "at least 1", max_tokens);
    require<SamplingError>(std::fabs(length_penalty) <= kMostPenalty, "length_penalty", "a number from -16 to 16",
                           length_penalty);
    require<SamplingError>(returned >= 1 && returned <= beams, "returned", "1 to beams (" + std::to_string(beams) + ")",
                           returned);
    for (const auto &text : stop) {
        if (text.empty() || !is_utf8(text)) {
            throw SamplingError("a stop string must be valid text and not empty");
        }
    }
}

BeamSearch::BeamSearch(const BeamOptions &options, BeamVocabulary vocabulary, int limit)
    : options_(options), vocabulary_(std::move(vocabulary)), limit_(limit) {
    options_.check(vocabulary_.size, static_cast<int>(vocabulary_.ends.size()));
    wanted_ = candidates_of(options_.beams, vocabulary_.ends.size());
    for (const auto &text : options_.stop) {
        longest_stop_ = std::max(longest_stop_, text.size());
    }
    nodes_.reserve(options_.beams * std::min<size_t>(limit_, kReservedRounds));
    beams_.reserve(options_.beams);
    next_.reserve(options_.beams);
    candidates_.reserve(wanted_ + 1);
    finished_.reserve(options_.beams + 1);
    tails_.resize(options_.beams);
    next_tails_.resize(options_.beams);
    beams_.push_back({-1, -1, 0.0, -1});
}

void BeamSearch::begin() { candidates_.clear(); }

void BeamSearch::consider(int index, const float *logits) {
    const double before = beams_[index].logprob - log_sum_exp(logits, vocabulary_.size);
    const auto better = [](double logprob, const Candidate &other) { return logprob > other.logprob; };
    // Most tokens fail this one comparison of floats; the margin is for its rounding.
    float least = -INFINITY;
    const auto raise = [&] {
        if (candidates_.size() == wanted_) {
            least = static_cast<float>(candidates_.back().logprob - before - 1e-3);
        }
    };
    raise();
    for (int32_t token = 0; token < vocabulary_.size; ++token) {
        if (!(logits[token] > least)) {
            continue;
        }
        const double logprob = logits[token] + before;
        if (candidates_.size() == wanted_ && logprob <= candidates_.back().logprob) {
            continue;
        }
        candidates_.insert(std::upper_bound(candidates_.begin(), candidates_.end(), logprob, better),
                           {index, token, logprob});
        if (candidates_.size() > wanted_) {
            candidates_.pop_back();
        }
        raise();
    }
}

void BeamSearch::advance() {
    ++length_;
    next_.clear();
    for (size_t rank = 0; rank < candidates_.size(); ++rank) {
        const Candidate &candidate = candidates_[rank];
        const char *reason = finish_of(candidate);
        if (reason == nullptr) {
            go_on(candidate);
        } else if (rank < static_cast<size_t>(options_.beams)) {
            keep(candidate, reason);
        }
    }
    beams_.swap(next_);
    tails_.swap(next_tails_);
    if (!improvable()) {
        beams_.clear();
    }
}

// nullptr: it goes on.
const char *BeamSearch::finish_of(const Candidate &candidate) {
    const auto &ends = vocabulary_.ends;
    if (std::find(ends.begin(), ends.end(), candidate.token) != ends.end()) {
        return kEnd;
    }
    if (stops(candidate)) {
        return "stop";
    }
    return length_ >= limit_ ? "length" : nullptr;
}

// Leaves the candidate's text, from where a stop string could begin, in joined_.
bool BeamSearch::stops(const Candidate &candidate) {
    if (longest_stop_ == 0) {
        return false;
    }
    joined_ = tails_[candidate.beam];
    joined_ += vocabulary_.piece(candidate.token);
    const auto in_text = [&](const std::string &text) { return joined_.find(text) != std::string::npos; };
    return std::any_of(options_.stop.begin(), options_.stop.end(), in_text);
}

void BeamSearch::go_on(const Candidate &candidate) {
    if (next_.size() == static_cast<size_t>(options_.beams)) {
        return;
    }
    if (longest_stop_ > 0) {
        const size_t kept = std::min(joined_.size(), longest_stop_ - 1);
        next_tails_[next_.size()].assign(joined_, joined_.size() - kept, kept);
    }
    const int node = add_node(beams_[candidate.beam].node, candidate.token);
    next_.push_back({candidate.beam, candidate.token, candidate.logprob, node});
}

void BeamSearch::keep(const Candidate &candidate, const char *reason) {
    const int before = beams_[candidate.beam].node;
    finish(reason == kEnd ? before : add_node(before, candidate.token), candidate.logprob, length_, reason);
}

void BeamSearch::finish(int node, double logprob, int length, const char *reason) {
    const double score = penalized(logprob, std::max(1, length), options_.length_penalty);
    const auto better = [](double value, const Finished &other) { return value > other.score; };
    finished_.insert(std::upper_bound(finished_.begin(), finished_.end(), score, better),
                     {node, logprob, score, reason});
    if (finished_.size() > static_cast<size_t>(options_.beams)) {
        finished_.pop_back();
    }
}

// Whether a beam that goes on could still become one of the best.
bool BeamSearch::improvable() const {
    if (beams_.empty() || finished_.size() < static_cast<size_t>(options_.beams)) {
        return !beams_.empty();
    }
    if (options_.early_stopping == BeamOptions::Early::yes || options_.beams == 1) {
        return false;
    }
    const bool longest = options_.early_stopping == BeamOptions::Early::never && options_.length_penalty > 0.0;
    const double hope = penalized(beams_.front().logprob, longest ? limit_ : length_, options_.length_penalty);
    return hope > finished_.back().score;
}

void BeamSearch::end(const char *reason) {
    for (const Beam &beam : beams_) {
        finish(beam.node, beam.logprob, length_, reason);
    }
    beams_.clear();
}

int BeamSearch::add_node(int parent, int32_t token) {
    nodes_.push_back({parent, token});
    return static_cast<int>(nodes_.size()) - 1;
}

std::vector<Hypothesis> BeamSearch::best() const {
    std::vector<Hypothesis> all;
    for (size_t i = 0; i < finished_.size() && i < static_cast<size_t>(options_.returned); ++i) {
        all.push_back(hypothesis(finished_[i]));
    }
    return all;
}

Hypothesis BeamSearch::hypothesis(const Finished &finished) const {
    Hypothesis result;
    for (int node = finished.node; node >= 0; node = nodes_[node].parent) {
        result.tokens.push_back(nodes_[node].token);
    }
    std::reverse(result.tokens.begin(), result.tokens.end());
    StopMatcher stops(options_.stop);
    Utf8Assembler utf8;
    for (const int32_t token : result.tokens) {
        result.text += stops.push(utf8.push(vocabulary_.piece(token)));
    }
    if (!stops.matched()) {
        result.text += stops.push(utf8.flush());
        result.text += stops.flush();
    }
    result.logprob = finished.logprob;
    result.score = finished.score;
    result.finish = finished.finish;
    return result;
}

} // namespace personaplug
