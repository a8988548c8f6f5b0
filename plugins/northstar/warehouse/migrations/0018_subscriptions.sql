-- Views of the pages that readers have sent to themselves. choice: what is chosen on the page; digest: of the values that were sent last;
-- token: whoever has it may end the subscription.
create table audit.subscriptions (
    subscription_id bigint generated always as identity primary key, name text not null, page text not null, choice jsonb not null,
    cadence text not null check (cadence in ('daily', 'weekly', 'change')), kind text not null check (kind in ('mail', 'slack', 'webhook')),
    target text not null, token uuid not null default gen_random_uuid() unique, made_at timestamptz not null default clock_timestamp(),
    digest text, ended_at timestamptz
);
create unique index subscriptions_once on audit.subscriptions (page, choice, cadence, kind, target) where ended_at is null;
