-- Batches are found by B-trees, which the landed tables have now; block ranges held every batch, since later rows fill earlier pages.
do $$ declare name text; begin
    for name in select indexname from pg_indexes where schemaname = 'staging' and indexdef like '% USING brin (_batch_id)' loop
        execute format('drop index staging.%I', name);
    end loop;
end $$;
