-- luacheck: the scripts of ledger and output, which Redis runs with Lua 5.1.
std = "lua51"
max_line_length = 120
-- Redis' own; then the tables that the ledger makes from the states, and what shared/*.lua defines.
read_globals = {
  "redis", "cjson", "KEYS", "ARGV",
  "STATES", "ENDED", "OPEN",
  "args", "P", "C", "now", "job_key", "batch_key", "contains", "publish_change", "unstarted_attempt",
  "to_number", "read_fields", "members_until", "decode_list", "is_no_record", "add_audit", "add_to_batch",
  "set_state", "request_cancel", "set_holder", "clear_holder", "mark_ready", "mark_unreported",
  "digits", "feed_key", "state_key", "files_key", "pieces_key", "keep_feed", "wanted_of", "want",
  "OVERHEAD", "allowed_now", "used_by", "trim_feed", "make_room",
  "queue_rules", "batch_is_held", "place_of", "repair_place", "keep_back", "go_on", "open_place",
  "free_slots", "take_slot", "queue_waiting", "condition_met", "give_slot_back", "end_batch",
  "batch_facts", "broken_rule", "stop_batch", "reopen_batch", "leave_batch", "spare_ended", "judge_all",
  "copy_ended", "cancel_attempt",
  "dependency_met", "process_end", "release_dependents", "move",
}
globals = {"stamp"} -- set for each job that one script makes
files["jaas_submit/ledger/scripts/shared"] = {ignore = {"211"}} -- they are used in the other files
files["jaas_submit/output/scripts/shared"] = {ignore = {"211"}}
