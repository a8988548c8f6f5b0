-- The queries by which readers ask for the rows behind a number: for each measure of a model (place: which of the model's notes has it) its value
-- ('value'), its rows ('rows'), and the rows that grouped rows were made of ('details').
create table audit.explained (
    code_version text, model text, place int, measure text, kind text, sql text not null, primary key (code_version, model, place, measure, kind)
);
