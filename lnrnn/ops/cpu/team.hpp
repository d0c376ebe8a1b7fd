// Threads that help one with the products of a few rows, step by step: each computes some columns, which
// changes no sum, so results are those of one thread, whoever helped.
//
// The leader runs the steps. It offers each product's parts; a helper takes its own part, and the
// leader takes those that nobody has taken when its own is done, so that nobody waits for a thread
// that is not running. What is between two offers takes microseconds, as long as waking a thread, so
// helpers wait awake.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace lnrnn {

// One of several parts of a product's columns.
struct Columns {
  int64_t index = 0, count = 1;
};

class Team {
 public:
  static constexpr int64_t kMost = 4;

  explicit Team(int64_t size) : size_(size) {}

  // Calls body(team) in this thread, with up to size - 1 helpers if there are any to spare. A helper that has
  // lost its core in the middle of a part keeps the leader waiting, and so does one that has to be
  // woken to be told that all is done. So that this costs 2 % at most on a machine that has other
  // work, a long wait is followed by fifty times as long without helpers, for the whole process.
  template <class Body>
  static void run(int64_t size, const Body& body) {
    Team team(size > 1 && now() >= alone_until().load(std::memory_order_relaxed) ? size : 1);
    if (team.size_ == 1) return body(team);
    int64_t done = 0;
    at::parallel_for(0, team.size_, 1, [&](int64_t low, int64_t) {
      if (low > 0) return team.help(low);
      const Dismissal at_the_end{team};
      body(team);
      done = now();
    });
    team.waited(now() - done);
  }

  // The leader's: calls work(part) for all parts, in whatever threads; it must not throw.
  template <class Work>
  void split(const Work& work) {
    if (size_ == 1) return work(Columns{});
    work_ = &work;
    call_ = [](const void* what, Columns columns) { (*static_cast<const Work*>(what))(columns); };
    done_.store(0, std::memory_order_relaxed);
    const uint64_t offer = (state_.load(std::memory_order_relaxed) / kOffer + 1) * kOffer;
    state_.store(offer | 1, std::memory_order_release);
    work(Columns{0, size_});
    int64_t others = 0;
    for (int64_t i = 1; i < size_; i++) {
      if (take(i)) work(Columns{i, size_});
      else others++;
    }
    wait_for(others);
  }

 private:
  static constexpr uint64_t kOffer = 1 << kMost;  // below it, a bit for each part that is taken
  static constexpr uint64_t kDismissed = ~uint64_t{0};
  static constexpr int kPauses = 500;             // some ten microseconds
  // Nanoseconds: longer than a page of 2 MiB takes to be filled with zeros, shorter than a core is lost.
  static constexpr int64_t kLong = 400'000;
  static constexpr int64_t kFactor = 50;

  struct Dismissal {
    Team& team;
    ~Dismissal() { team.state_.store(kDismissed, std::memory_order_release); }
  };

  static int64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }

  static std::atomic<int64_t>& alone_until() {
    static std::atomic<int64_t> time{0};
    return time;
  }

  static void pause(int turn) {
    if (turn >= kPauses) return std::this_thread::yield();
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  // Takes a part of what is on offer, unless there is nothing or it is taken.
  bool take(int64_t index) {
    const uint64_t bit = uint64_t{1} << index;
    uint64_t state = state_.load(std::memory_order_acquire);
    while ((state & bit) == 0) {
      if (state_.compare_exchange_weak(state, state | bit, std::memory_order_acquire)) return true;
    }
    return false;
  }

  void help(int64_t index) {
    for (int turn = 0; state_.load(std::memory_order_relaxed) != kDismissed; turn++) {
      if (take(index)) {
        call_(work_, Columns{index, size_});
        done_.fetch_add(1, std::memory_order_release);
        turn = 0;
      } else {
        pause(turn);
      }
    }
  }

  void wait_for(int64_t others) {
    int64_t since = 0;
    for (int turn = 0; done_.load(std::memory_order_acquire) < others; turn++) {
      if (turn == kPauses) since = now();
      pause(turn);
    }
    if (since != 0) waited(now() - since);
  }

  void waited(int64_t time) {
    if (time < kLong) return;
    alone_until().store(now() + kFactor * time, std::memory_order_relaxed);
    state_.store(kDismissed, std::memory_order_release);
    size_ = 1;
  }

  int64_t size_;
  const void* work_ = nullptr;
  void (*call_)(const void*, Columns) = nullptr;
  // All bits set but the offer's: nothing to take before the first.
  alignas(64) std::atomic<uint64_t> state_{kOffer - 1};
  alignas(64) std::atomic<int64_t> done_{0};
};

}  // namespace lnrnn
