-- Amounts may have digits below the minor unit: what landed as whole numbers stays equal. Views over the columns, and those over them, are made
-- again as they were, for who reads them before the next run.
do $migration$
declare
    amount record;
    standing record;
begin
    create temp table standing_views on commit drop as
    with recursive amounts (relation, name) as (
        values ('charges', 'amount'), ('refunds', 'amount'), ('marketing_spend', 'amount'), ('bookings', 'price_amount'),
            ('package_purchases', 'amount'), ('creator_earnings', 'amount')
    ),
    readers (view, depth) as (
        select rule.ev_class, 1
        from amounts
        inner join pg_attribute as a on a.attrelid = to_regclass('staging.' || amounts.relation) and a.attname = amounts.name
        inner join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
            and d.classid = 'pg_rewrite'::regclass
        inner join pg_rewrite as rule on rule.oid = d.objid
        union
        select rule.ev_class, readers.depth + 1
        from readers
        inner join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = readers.view and d.classid = 'pg_rewrite'::regclass
        inner join pg_rewrite as rule on rule.oid = d.objid and rule.ev_class != readers.view
    )
    select n.nspname as schema, c.relname as name, c.relowner::regrole as owner, pg_get_viewdef(c.oid) as body, c.relacl as rights,
        max(readers.depth) as depth
    from readers
    inner join pg_class as c on c.oid = readers.view and c.relkind = 'v'
    inner join pg_namespace as n on n.oid = c.relnamespace
    group by 1, 2, 3, 4, 5;
    for standing in select * from standing_views loop
        execute format('drop view if exists %I.%I cascade', standing.schema, standing.name);
    end loop;
    for amount in
        select c.relname as relation, a.attname as name from pg_class as c
        inner join pg_attribute as a on a.attrelid = c.oid and a.atttypid = 'bigint'::regtype
        where c.relnamespace = 'staging'::regnamespace and c.relkind = 'r' and (c.relname, a.attname) in (
            ('charges', 'amount'), ('refunds', 'amount'), ('marketing_spend', 'amount'), ('bookings', 'price_amount'),
            ('package_purchases', 'amount'), ('creator_earnings', 'amount'))
    loop
        execute format('alter table staging.%I alter column %I type numeric', amount.relation, amount.name);
    end loop;
    for standing in select * from standing_views order by depth loop
        execute format('create view %I.%I as %s', standing.schema, standing.name, standing.body);
        execute format('alter view %I.%I owner to %s', standing.schema, standing.name, standing.owner);
        for amount in
            select case when r.grantee = 0 then 'public' else r.grantee::regrole::text end as relation, r.privilege_type as name
            from aclexplode(standing.rights) as r where r.grantee != (select oid from pg_roles where rolname = trim('"' from standing.owner::text))
        loop
            execute format('grant %s on %I.%I to %s', amount.name, standing.schema, standing.name, amount.relation);
        end loop;
    end loop;
end $migration$;
